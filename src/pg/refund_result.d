src/pg/refund_result.o: src/pg/refund_result.cpp src/pg/refund_result.h \
 src/core/refund.h src/core/gateway_answer.h src/core/states.h \
 src/pg/pg.h src/pg/store.h src/core/payment_standing.h
src/pg/refund_result.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
src/pg/pg.h:
src/pg/store.h:
src/core/payment_standing.h:
