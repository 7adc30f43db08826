src/pg/refund_resolve.o: src/pg/refund_resolve.cpp src/core/refund.h \
 src/core/gateway_answer.h src/core/states.h src/pg/arguments.h \
 src/pg/pg.h src/pg/case.h src/pg/store.h src/core/payment_standing.h \
 src/pg/statement.h
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
src/pg/arguments.h:
src/pg/pg.h:
src/pg/case.h:
src/pg/store.h:
src/core/payment_standing.h:
src/pg/statement.h:
