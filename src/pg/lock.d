src/pg/lock.o: src/pg/lock.cpp src/pg/lock.h src/pg/pg.h
src/pg/lock.h:
src/pg/pg.h:
