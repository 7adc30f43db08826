src/pg/evidence.o: src/pg/evidence.cpp src/pg/evidence.h \
 src/core/gateway_answer.h src/pg/pg.h src/pg/statement.h
src/pg/evidence.h:
src/core/gateway_answer.h:
src/pg/pg.h:
src/pg/statement.h:
