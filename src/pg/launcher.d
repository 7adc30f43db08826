src/pg/launcher.o: src/pg/launcher.cpp src/pg/launcher.h src/pg/pg.h \
 src/pg/settings.h src/core/decide.h src/core/states.h src/core/refund.h \
 src/core/gateway_answer.h src/pg/shared_state.h
src/pg/launcher.h:
src/pg/pg.h:
src/pg/settings.h:
src/core/decide.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/shared_state.h:
