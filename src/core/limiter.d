src/core/limiter.o: src/core/limiter.cpp src/core/limiter.h \
 src/core/refund.h src/core/gateway_answer.h src/core/states.h
src/core/limiter.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
