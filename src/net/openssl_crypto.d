src/net/openssl_crypto.o: src/net/openssl_crypto.cpp \
 src/net/openssl_crypto.h src/core/crypto_port.h
src/net/openssl_crypto.h:
src/core/crypto_port.h:
