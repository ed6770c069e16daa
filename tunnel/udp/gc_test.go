package udp

import (
	"os/exec"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"testing"
	"time"
)

// longPause is more than the garbage collector should ever stop the world for. It takes
// microseconds, unless the machine stands still; a thread that keeps it waiting for the
// next packet makes it a second, or half of one, mostly.
const longPause = 300 * time.Millisecond

// Threads do not keep the garbage collector waiting: neither one that waits for
// packets, as it would if it blocked in a raw system call, nor one that is busy.
func TestThreadsDoNotDelayGC(t *testing.T) {
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

	t.Run("idle", func(t *testing.T) { collect(t, func() bool { return true }) })
	t.Run("busy", func(t *testing.T) {
		var done atomic.Bool
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			collect(t, done.Load)
		}()
		transferTCP(t, a, b, false, 64<<20)
		done.Store(true)
		<-finished
	})
	check(t, a.Health())
}

// collect collects garbage fifty times and more, until enough. It fails if a fifth of the
// pauses were long, which it knows after ten.
func collect(t *testing.T, enough func() bool) {
	t.Helper()
	before := pauses(t)
	for i := 0; i < 50 || !enough(); i++ {
		runtime.GC()
		long, all := 0, 0
		after := pauses(t)
		for i, n := range after.Counts {
			n -= before.Counts[i]
			all += int(n)
			if after.Buckets[i] > longPause.Seconds() {
				long += int(n)
			}
		}
		if all == 0 || all >= 10 && 5*long >= all {
			t.Errorf("%d pauses, %d of them of more than %v", all, long, longPause)
			return
		}
	}
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
