package subnettest

import (
	"testing"
	"testing/synctest"
)

// Time is a bubble's: on a busy machine an announcement of so short a TTL could
// not be kept alive.
func TestStore(t *testing.T) {
	runRegistry(t, synctest.Test, func(*testing.T) Harness { return NewStore().Harness() })
}
