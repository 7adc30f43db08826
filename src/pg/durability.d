src/pg/durability.o: src/pg/durability.cpp src/pg/durability.h \
 src/pg/pg.h src/pg/compat.h
src/pg/durability.h:
src/pg/pg.h:
src/pg/compat.h:
