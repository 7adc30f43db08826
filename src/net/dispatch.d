src / net / dispatch.o : src / net / dispatch.cpp src / net / dispatch.h src / core /
    gateway_answer.h src / core / gateways / http.h src / core / crypto_port.h src / core /
    http_message.h src / core / limiter.h src / core / refund.h src / core / states.h src / net /
    http_client.h src / net / openssl_crypto.h src / net / dispatch.h : src / core /
    gateway_answer.h : src / core / gateways / http.h : src / core / crypto_port.h : src / core /
    http_message.h : src / core / limiter.h : src / core / refund.h : src / core / states.h : src /
    net / http_client.h : src / net / openssl_crypto.h:
