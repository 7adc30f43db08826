// payonce_prune removes what is settled and old.
#pragma once

namespace payonce::pg {

// Whether payonce_prune is deleting at this moment, in this process: the one case in which evidence
// may be deleted. No setting, which anybody could set.
bool is_pruning();

}  // namespace payonce::pg
