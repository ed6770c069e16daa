package udp

import (
	"os/exec"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// longestPause bounds the time for which the garbage collector stops the world.
// It takes microseconds; the rest is for machines that are busy.
const longestPause = 300 * time.Millisecond

// A thread that waits for packets does not keep the garbage collector waiting,
// as one would that blocks in a raw system call.
func TestIdleThreadsDoNotDelayGC(t *testing.T) {
	a, b := newPair(t, setup{})
	// Were it so, this process could not even notice. Packets that another
	// process sends end the wait, and the pause was long.
	ping := exec.Command("busybox", "ping", "-q", "-i", "1", b.ipv4.String())
	check(t, a.Namespace.Start(ping))
	t.Cleanup(func() {
		_ = ping.Process.Kill()
		_ = ping.Wait()
	})
	waitFor(t, "the first packet", func() bool { return a.Table().Peers()[0].State.Rx.Packets.Load() > 0 })

	before := pauses(t)
	for range 50 {
		runtime.GC()
		long, all := 0, 0
		after := pauses(t)
		for i, n := range after.Counts {
			n -= before.Counts[i]
			all += int(n)
			if after.Buckets[i] > longestPause.Seconds() {
				long += int(n)
			}
		}
		if long > 0 || all == 0 {
			t.Fatalf("%d pauses, %d of them of more than %v", all, long, longestPause)
		}
	}
	check(t, a.Health())
}

// pauses is the histogram of all pauses of this process so far.
func pauses(t *testing.T) *metrics.Float64Histogram {
	t.Helper()
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		t.Fatalf("no metric %s", sample[0].Name)
	}
	return sample[0].Value.Float64Histogram()
}
