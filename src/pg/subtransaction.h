// Runs an action in a subtransaction, so that a row whose trigger or constraint refuses a change
// does not undo, or hold up, what is done to others.
#pragma once

#include "pg/pg.h"

namespace payonce::pg {

// What rows refused since the worker last looked: a queue that stands still must not look healthy.
struct Refusals {
    int count;
    char last_error[200];
};
inline Refusals refusals = {};

inline void note_refusal(const char* message) {
    ++refusals.count;
    strlcpy(refusals.last_error, message != nullptr ? message : "error",
            sizeof refusals.last_error);
}

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
        ErrorData* error = CopyErrorData();
        note_refusal(error->message);
        FreeErrorData(error);
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
