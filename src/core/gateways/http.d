src/core/gateways/http.o: src/core/gateways/http.cpp \
 src/core/gateways/http.h src/core/crypto_port.h \
 src/core/gateway_answer.h src/core/http_message.h src/core/text.h
src/core/gateways/http.h:
src/core/crypto_port.h:
src/core/gateway_answer.h:
src/core/http_message.h:
src/core/text.h:
