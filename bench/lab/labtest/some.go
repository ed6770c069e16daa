package labtest

import "testing"

// someTries is how many of OneOfSome there are.
const someTries = 5

// OneOfSome is for what a busy machine may spoil by itself: one try of some must do. A
// try returns what was amiss, or "".
func OneOfSome(t testing.TB, try func() (amiss string)) {
	t.Helper()
	for n := 1; ; n++ {
		amiss := try()
		if amiss == "" {
			return
		}
		if n == someTries {
			t.Errorf("in each of %d tries, in the last one: %s", n, amiss)
			return
		}
		t.Logf("try %d: %s", n, amiss)
	}
}
