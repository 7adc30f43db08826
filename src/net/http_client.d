src/net/http_client.o: src/net/http_client.cpp src/net/http_client.h \
 src/core/http_message.h
src/net/http_client.h:
src/core/http_message.h:
