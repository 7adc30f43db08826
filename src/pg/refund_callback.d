src/pg/refund_callback.o: src/pg/refund_callback.cpp src/core/refund.h \
 src/core/gateway_answer.h src/core/states.h src/pg/arguments.h \
 src/pg/pg.h src/pg/case.h src/pg/store.h src/core/payment_standing.h \
 src/pg/durability.h src/pg/refund_result.h src/pg/statement.h
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
src/pg/arguments.h:
src/pg/pg.h:
src/pg/case.h:
src/pg/store.h:
src/core/payment_standing.h:
src/pg/durability.h:
src/pg/refund_result.h:
src/pg/statement.h:
