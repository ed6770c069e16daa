package vxlan

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftnet/weft/tunnel/netstate"
)

// offload is whether the checksums of packets inside a device's tunnel are left
// to the hardware that sends them, and why.
type offload struct {
	set netstate.Switch
	why string
}

var untested = offload{netstate.Leave, "as the device has it: no peer has answered a test yet"}

// offload returns what is configured, or what a ChecksumTest has found.
func (v *VTEP) offload(device string) offload {
	if v.settings.txChecksum != netstate.Leave {
		return offload{v.settings.txChecksum, "configured"}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if o, ok := v.offloads[device]; ok {
		return o
	}
	return untested
}

// setOffload tells whether State is another one now.
func (v *VTEP) setOffload(device string, o offload) (changed bool) {
	before := v.offload(device)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.offloads == nil {
		v.offloads = make(map[string]offload)
	}
	v.offloads[device] = o
	return o.set != before.set
}

// ChecksumTest decides TxChecksum "auto" for a VTEP. Some network cards, or the
// hypervisors behind them, write wrong checksums into packets inside VXLAN when
// that is left to them. Ping then works, whose checksum is made in software, and
// UDP and TCP do not.
//
// The test needs no daemon at the peer, whose kernel refuses a UDP datagram to a
// port where nobody listens, by ICMP port unreachable, only if the checksum is
// right (__udp4_lib_rcv, __udp6_lib_rcv). So datagrams go to its tunnel
// address, some with their checksum made in software: if those are refused and
// the others are not, the offload is switched off. Where nobody answers it is
// left as it is.
//
// A nil ChecksumTest does nothing.
type ChecksumTest struct {
	vtep    *VTEP
	probe   probe
	changed func()
	log     *slog.Logger
	retry   time.Duration // checksumRetry, but in tests

	stop context.CancelFunc
	end  sync.WaitGroup
	wake chan struct{} // capacity 1: there are remotes

	mu      sync.Mutex
	remotes []Remote
}

// A probe sends a datagram through a device to a peer's tunnel address, with
// its checksum left to the hardware or not, and tells whether it was refused.
type probe func(device string, to netip.Addr, offloaded bool) (refused bool)

const (
	// checksumRounds is how many probes in a row must be lost that are left to
	// the hardware. Each is followed by one that is not: a kernel sends six
	// ICMP errors at once to one destination, then one a second
	// (net.ipv4.icmp_ratelimit), so no more may be asked for.
	checksumRounds = 4

	// checksumPeers is how many peers are asked in a row.
	checksumPeers = 3

	// A test that found nothing is done again after a time that doubles, and
	// reported after some.
	checksumRetry     = time.Second
	checksumRetryMost = 5 * time.Minute
	checksumReport    = 4
)

// NewChecksumTest starts the test, for devices in the network namespace of the
// calling thread. It returns nil unless TxChecksum is "auto". When a verdict
// changes the VTEP's State, it calls changed, from a goroutine of its own.
func NewChecksumTest(v *VTEP, log *slog.Logger, changed func()) *ChecksumTest {
	if v.settings.txChecksum != netstate.Leave {
		return nil
	}
	sockets := openProbeSockets()
	return startChecksumTest(v, log, changed, sockets.probe, sockets.close, checksumRetry)
}

// startChecksumTest calls atEnd when it has no more use for the probe.
func startChecksumTest(v *VTEP, log *slog.Logger, changed func(), p probe, atEnd func(), retry time.Duration) *ChecksumTest {
	ctx, stop := context.WithCancel(context.Background())
	t := &ChecksumTest{vtep: v, probe: p, changed: changed, log: log, retry: retry, stop: stop, wake: make(chan struct{}, 1)}
	t.end.Go(func() {
		defer atEnd()
		t.run(ctx)
	})
	return t
}

// SetRemotes says which peers may be asked.
func (t *ChecksumTest) SetRemotes(remotes []Remote) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.remotes = remotes
	t.mu.Unlock()
	if len(remotes) > 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// Close ends the test; what it has found stays. It must not be called by
// changed, nor while changed waits for the caller.
func (t *ChecksumTest) Close() {
	if t == nil {
		return
	}
	t.stop()
	t.end.Wait()
}

// run tests until each device has a verdict.
func (t *ChecksumTest) run(ctx context.Context) {
	devices := t.vtep.Devices()
	select {
	case <-ctx.Done():
		return
	case <-t.wake:
	}
	for tries, wait := 1, t.retry; ; tries++ {
		devices = slices.DeleteFunc(devices, func(device string) bool { return t.decide(ctx, device) })
		if len(devices) == 0 || ctx.Err() != nil {
			return
		}
		if tries == checksumReport {
			t.log.Info("whether the checksum offload of the tunnel works is not known, it stays as it is: no peer has answered the test",
				"devices", devices)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, checksumRetryMost)
	}
}

// decide asks some of the peers about one device.
func (t *ChecksumTest) decide(ctx context.Context, device string) (decided bool) {
	t.mu.Lock()
	remotes := slices.Clone(t.remotes)
	t.mu.Unlock()
	rand.Shuffle(len(remotes), func(i, j int) { remotes[i], remotes[j] = remotes[j], remotes[i] })
	asked := 0
	for _, r := range remotes {
		for _, e := range r.ends {
			if e.device != device || asked == checksumPeers || ctx.Err() != nil {
				continue
			}
			asked++
			switch t.ask(device, e.subnet.Addr()) {
			case sound:
				t.set(device, offload{netstate.On, fmt.Sprintf("tested with %v", e.subnet)})
				t.log.Info("checksum offload of the tunnel works", "device", device, "tested_with", e.subnet)
				return true
			case mangled:
				t.set(device, offload{netstate.Off, fmt.Sprintf("this host's network card or hypervisor makes wrong checksums inside VXLAN, as tested with %v", e.subnet)})
				t.log.Warn("checksum offload of the tunnel is switched off: this host's network card or hypervisor makes wrong checksums inside VXLAN",
					"device", device, "tested_with", e.subnet)
				return true
			}
		}
	}
	return false
}

// verdict is what one peer's answers say.
type verdict int

const (
	unknown verdict = iota
	sound
	mangled
)

// ask tests with one peer. The offload is not touched before the peer has
// answered once, and switched on then, for where an earlier run or flannel has
// switched it off there would be nothing to test.
func (t *ChecksumTest) ask(device string, peer netip.Addr) verdict {
	if !t.probe(device, peer, false) {
		return unknown
	}
	t.set(device, offload{netstate.On, "not known: no peer has answered the whole test yet"})
	for range checksumRounds {
		if t.probe(device, peer, true) {
			return sound
		}
		if !t.probe(device, peer, false) {
			return unknown
		}
	}
	return mangled
}

func (t *ChecksumTest) set(device string, o offload) {
	if t.vtep.setOffload(device, o) {
		t.changed()
	}
}
