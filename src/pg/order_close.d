src/pg/order_close.o: src/pg/order_close.cpp src/core/states.h \
 src/pg/arguments.h src/pg/pg.h src/pg/durability.h src/pg/lock.h \
 src/pg/statement.h src/pg/store.h src/core/payment_standing.h \
 src/core/refund.h src/core/gateway_answer.h
src/core/states.h:
src/pg/arguments.h:
src/pg/pg.h:
src/pg/durability.h:
src/pg/lock.h:
src/pg/statement.h:
src/pg/store.h:
src/core/payment_standing.h:
src/core/refund.h:
src/core/gateway_answer.h:
