src/net/url.o: src/net/url.cpp src/net/url.h
src/net/url.h:
