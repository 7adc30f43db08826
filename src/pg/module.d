src/pg/module.o: src/pg/module.cpp src/pg/launcher.h src/pg/pg.h \
 src/pg/settings.h src/core/decide.h src/core/states.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/shared_state.h src/pg/utility_hook.h \
 src/pg/wakeup.h
src/pg/launcher.h:
src/pg/pg.h:
src/pg/settings.h:
src/core/decide.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/shared_state.h:
src/pg/utility_hook.h:
src/pg/wakeup.h:
