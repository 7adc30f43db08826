src/pg/validator.o: src/pg/validator.cpp src/core/gateways/http.h \
 src/core/crypto_port.h src/core/gateway_answer.h src/core/http_message.h \
 src/net/openssl_crypto.h src/net/url.h src/pg/pg.h
src/core/gateways/http.h:
src/core/crypto_port.h:
src/core/gateway_answer.h:
src/core/http_message.h:
src/net/openssl_crypto.h:
src/net/url.h:
src/pg/pg.h:
