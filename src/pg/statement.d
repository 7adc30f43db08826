src/pg/statement.o: src/pg/statement.cpp src/pg/statement.h src/pg/pg.h
src/pg/statement.h:
src/pg/pg.h:
