package assist

import (
	"testing"
	"time"
)

// heal is Heal without what was.
func (h *host) heal() error {
	_, is := h.assist.Heal()
	return is
}

// Who makes and unmakes interfaces may have to wait for others who do. Nobody else
// waits for that.
func TestHealHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	waits, goOn := make(chan struct{}), make(chan struct{})
	a.assist.super.device.freePort = func() (uint16, error) {
		close(waits)
		<-goOn
		return freePort()
	}
	a.ip("link", "delete", deviceName)
	healed := make(chan error)
	go func() {
		was, is := a.assist.Heal()
		refuses(t, "what was", was, "weft-gso is gone")
		healed <- is
	}()
	<-waits
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.assist.Traffic(subnet(2))
		a.assist.SuperpacketsSent(subnet(2))
		a.assist.SetLimit(subnet(2), 1400)
		a.assist.SetSuperpackets(subnet(2), false)
		a.assist.Drops()
		if a.assist.Superpackets() != nil || a.assist.Try(subnet(1).Addr(), subnet(2), 1, false) != nil {
			t.Error("what leaves does not need it")
		}
		a.set(a.peer(b))
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the others wait")
	}
	close(goOn)
	check(t, <-healed)
	<-done
	if was, is := a.assist.Heal(); was != nil || is != nil {
		t.Errorf("healed again: %v, %v", was, is)
	}
}

// A program that somebody has detached is attached again, to another device.
func TestHealDetached(t *testing.T) {
	t.Parallel()
	a, _ := newSuperPair(t, 1500)
	before := a.assist.super.device.index
	check(t, a.assist.super.arrival.(interface{ Detach() error }).Detach())
	was, is := a.assist.Heal()
	refuses(t, "what was", was, "weft-gso", "detached")
	check(t, is)
	if l := a.link(deviceName); l == nil || l.Attrs().Index == before {
		t.Errorf("the device is %+v", l)
	}
	check(t, a.heal())
}
