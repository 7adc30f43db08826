// Runs an action in a subtransaction, so that a row whose trigger or constraint refuses a change
// does not undo, or hold up, what is done to others.
#pragma once

#include "pg/pg.h"

namespace payonce::pg {

// False: the action raised an error, which was logged, and its changes are undone. Then nothing
// that it has set for the caller is worth anything.
template <typename Action>
bool run_alone(Action action) {
    const MemoryContext context = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    volatile bool done = false;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        action();
        ReleaseCurrentSubTransaction();
        done = true;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        EmitErrorReport();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return done;
}

}  // namespace payonce::pg
