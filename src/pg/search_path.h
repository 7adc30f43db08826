// The search_path under which code of others runs inside a function with its owner's rights.
#pragma once

namespace payonce::pg {

// Until the surrounding level of settings ends. The functions that are called most do not have it
// in their definition, which costs a tenth of a call, but pin it here when something can ask for
// it: a statement, or a trigger of the application.
void pin_search_path();

}  // namespace payonce::pg
