src/pg/triggers.o: src/pg/triggers.cpp src/core/identifiers.h \
 src/core/states.h src/pg/pg.h src/pg/statement.h src/pg/wakeup.h
src/core/identifiers.h:
src/core/states.h:
src/pg/pg.h:
src/pg/statement.h:
src/pg/wakeup.h:
