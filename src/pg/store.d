src/pg/store.o: src/pg/store.cpp src/pg/store.h \
 src/core/payment_standing.h src/core/states.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/pg.h src/core/identifiers.h \
 src/pg/arguments.h src/pg/statement.h
src/pg/store.h:
src/core/payment_standing.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/pg.h:
src/core/identifiers.h:
src/pg/arguments.h:
src/pg/statement.h:
