src/pg/case.o: src/pg/case.cpp src/pg/case.h src/pg/pg.h src/pg/store.h \
 src/core/payment_standing.h src/core/states.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/arguments.h src/pg/durability.h \
 src/pg/lock.h
src/pg/case.h:
src/pg/pg.h:
src/pg/store.h:
src/core/payment_standing.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/arguments.h:
src/pg/durability.h:
src/pg/lock.h:
