src/pg/stats.o: src/pg/stats.cpp src/pg/gateway_config.h src/pg/pg.h \
 src/pg/identity.h src/pg/settings.h src/core/decide.h src/core/states.h \
 src/core/refund.h src/core/gateway_answer.h src/pg/shared_state.h \
 src/pg/statement.h
src/pg/gateway_config.h:
src/pg/pg.h:
src/pg/identity.h:
src/pg/settings.h:
src/core/decide.h:
src/core/states.h:
src/core/refund.h:
src/core/gateway_answer.h:
src/pg/shared_state.h:
src/pg/statement.h:
