package labtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Lossless has a test exchange packets each of which is sent once and must arrive; an
// error says which did not. What a veth hands over waits in a queue of the CPU, which all
// namespaces of the machine share (net.core.netdev_max_backlog, 1000 packets): the flood
// of a test that runs beside this one may fill it. So an exchange that fails is repeated,
// whole and a bounded number of times, if and only if the machine dropped packets there
// meanwhile; the error of the last is returned. What no loss can bring about is not to be
// returned by an exchange, but reported.
func Lossless(t testing.TB, exchange func() error) error {
	t.Helper()
	return lossless(t, func() uint32 { return backlogDrops(t) }, exchange)
}

// exchanges is how many times an exchange is done at most.
const exchanges = 6

func lossless(t testing.TB, drops func() uint32, exchange func() error) error {
	t.Helper()
	for n := 1; ; n++ {
		before := drops()
		err := exchange()
		if err == nil {
			return nil
		}
		dropped := drops() - before
		if dropped == 0 || n == exchanges {
			return fmt.Errorf("%w (try %d, in which the machine's CPUs dropped %d packets)", err, n, dropped)
		}
		t.Logf("once more, since the machine's CPUs dropped %d packets meanwhile: %v", dropped, err)
	}
}

// backlogDrops is how many packets this machine's CPUs have dropped since it was
// started, for their backlogs were full. It goes round.
func backlogDrops(t testing.TB) (sum uint32) {
	t.Helper()
	// A line for each CPU, of hexadecimal numbers, the second of which it is: the
	// kernel's softnet_seq_show.
	b, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var processed, dropped uint32
		if _, err := fmt.Sscanf(line, "%x %x", &processed, &dropped); err != nil {
			t.Fatalf("/proc/net/softnet_stat: %q: %v", line, err)
		}
		sum += dropped
	}
	return sum
}
