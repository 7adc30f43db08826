src/pg/utility_hook.o: src/pg/utility_hook.cpp src/pg/utility_hook.h \
 src/pg/compat.h src/pg/pg.h src/pg/shared_state.h src/pg/wakeup.h
src/pg/utility_hook.h:
src/pg/compat.h:
src/pg/pg.h:
src/pg/shared_state.h:
src/pg/wakeup.h:
