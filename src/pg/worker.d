src/pg/worker.o: src/pg/worker.cpp src/core/refund.h \
 src/core/gateway_answer.h src/core/states.h src/pg/apply.h src/pg/pg.h \
 src/pg/claim.h src/pg/gateway_config.h src/pg/dispatch_bridge.h \
 src/pg/durability.h src/pg/identity.h src/pg/settings.h \
 src/core/decide.h src/pg/shared_state.h src/pg/statement.h
src/core/refund.h:
src/core/gateway_answer.h:
src/core/states.h:
src/pg/apply.h:
src/pg/pg.h:
src/pg/claim.h:
src/pg/gateway_config.h:
src/pg/dispatch_bridge.h:
src/pg/durability.h:
src/pg/identity.h:
src/pg/settings.h:
src/core/decide.h:
src/pg/shared_state.h:
src/pg/statement.h:
