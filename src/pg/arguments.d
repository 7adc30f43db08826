src/pg/arguments.o: src/pg/arguments.cpp src/pg/arguments.h src/pg/pg.h \
 src/core/identifiers.h
src/pg/arguments.h:
src/pg/pg.h:
src/core/identifiers.h:
