package netstate

import (
	"errors"
	"log/slog"
	"time"
)

// Reconciler keeps one State. Make it with New, end it with Close.
type Reconciler struct{}

// Problem is an object that is not as the State wants it.
type Problem struct {
	Object string    // "route 10.5.0.0/16 dev flannel0"
	Err    error     // why, and what to do
	Since  time.Time // when it was first seen so

	// Pending: it waits for something that is expected to come back, such as
	// a link that does not exist now. Apply does not report it.
	Pending bool
}

// New makes a Reconciler for the network namespace of the calling thread, and
// starts the goroutines that heal; until the first Apply there is nothing to
// heal. A caller in another namespace than the process must have locked its
// goroutine to the thread; Apply and the rest may then be called from any.
func New(log *slog.Logger) (*Reconciler, error) {
	return nil, errors.New("not built yet")
}

// Apply replaces the desired state and reconciles once before it returns. All
// objects are attempted whatever fails; the error is the first one that is not
// pending, it names the object and says what to do. Also after an error the
// state is kept and retried.
//
// A State that cannot be valid is refused as a whole, and the former one kept.
func (r *Reconciler) Apply(s State) error { return nil }

// Status lists what is not as desired, as of the last comparison; empty when
// all is well.
func (r *Reconciler) Status() []Problem { return nil }

// Close stops healing and leaves everything as it is. Closing twice is no
// error.
func (r *Reconciler) Close() error { return nil }

// RemoveOwn deletes every route of RouteProtocol in the main table and the
// named devices, in the network namespace of the calling thread. What is gone
// already is no error. All are attempted; the error joins what failed.
func RemoveOwn(log *slog.Logger, devices ...string) error { return nil }
