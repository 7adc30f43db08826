src/pg/payment_resolve.o: src/pg/payment_resolve.cpp src/core/states.h \
 src/pg/arguments.h src/pg/pg.h src/pg/case.h src/pg/store.h \
 src/core/payment_standing.h src/core/refund.h src/core/gateway_answer.h \
 src/pg/statement.h
src/core/states.h:
src/pg/arguments.h:
src/pg/pg.h:
src/pg/case.h:
src/pg/store.h:
src/core/payment_standing.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/statement.h:
