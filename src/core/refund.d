src/core/refund.o: src/core/refund.cpp src/core/refund.h \
 src/core/gateway_answer.h src/core/states.h
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
