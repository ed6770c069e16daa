package subnettest

import "testing"

func TestStore(t *testing.T) {
	RunRegistry(t, func(*testing.T) Harness { return NewStore().Harness() })
}
