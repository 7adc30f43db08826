src/pg/wakeup.o: src/pg/wakeup.cpp src/pg/wakeup.h src/pg/pg.h \
 src/pg/shared_state.h src/pg/utility_hook.h
src/pg/wakeup.h:
src/pg/pg.h:
src/pg/shared_state.h:
src/pg/utility_hook.h:
