src/pg/identity.o: src/pg/identity.cpp src/pg/identity.h src/pg/pg.h \
 src/pg/shared_state.h src/pg/statement.h src/pg/wakeup.h
src/pg/identity.h:
src/pg/pg.h:
src/pg/shared_state.h:
src/pg/statement.h:
src/pg/wakeup.h:
