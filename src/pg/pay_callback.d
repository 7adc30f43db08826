src/pg/pay_callback.o: src/pg/pay_callback.cpp src/core/decide.h \
 src/core/states.h src/pg/arguments.h src/pg/pg.h src/pg/durability.h \
 src/pg/lock.h src/pg/settings.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/statement.h src/pg/store.h \
 src/core/payment_standing.h
src/core/decide.h:
src/core/states.h:
src/pg/arguments.h:
src/pg/pg.h:
src/pg/durability.h:
src/pg/lock.h:
src/pg/settings.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/statement.h:
src/pg/store.h:
src/core/payment_standing.h:
