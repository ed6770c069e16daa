package assist

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestCheck(t *testing.T) {
	labtest.RequireRoot(t)
	check(t, Check())
}

// keepOnly leaves the thread, whose goroutine never leaves it, only these
// capabilities in effect.
func keepOnly(capabilities ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	for i := range data {
		data[i].Effective = 0
	}
	for _, c := range capabilities {
		data[c/32].Effective |= 1 << (c % 32)
	}
	return unix.Capset(&header, &data[0])
}

// CAP_BPF and CAP_NET_ADMIN are all that it takes, but for superpackets, which take
// CAP_NET_RAW for trials.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	h.super = true
	for _, c := range []struct {
		capabilities []int
		ok           bool
	}{
		{[]int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW}, true},
		{[]int{unix.CAP_BPF, unix.CAP_NET_ADMIN}, true},
		{[]int{unix.CAP_BPF}, false},
		{[]int{unix.CAP_NET_ADMIN}, false},
		{nil, false},
	} {
		var checked, attached, super error
		check(t, h.Do(func() error { // on a thread of its own
			if err := keepOnly(c.capabilities...); err != nil {
				return err
			}
			checked = Check()
			a, err := h.attachHere(1)
			if err == nil {
				super = a.Superpackets()
				err = errors.Join(a.Set(subnet(1), []Peer{{Subnet: subnet(2), Public: outer(2)}}), a.Close())
			}
			attached = err
			return nil
		}))
		if c.ok && (super == nil) != slices.Contains(c.capabilities, unix.CAP_NET_RAW) || super != nil && !strings.Contains(super.Error(), "CAP_NET_RAW") {
			t.Errorf("Superpackets with capabilities %v: %v", c.capabilities, super)
		}
		for what, err := range map[string]error{"Check": checked, "Attach": attached} {
			switch {
			case (err == nil) != c.ok:
				t.Errorf("%s with capabilities %v: %v", what, c.capabilities, err)
			case err != nil && !strings.Contains(err.Error(), "CAP_BPF and CAP_NET_ADMIN"):
				t.Errorf("%s with capabilities %v: %v, which does not say what it takes", what, c.capabilities, err)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	for err, want := range map[error]string{
		unix.EPERM:           "CAP_BPF",
		unix.EACCES:          "CAP_BPF",
		unix.EINVAL:          "Linux 6.6",
		unix.ENOSYS:          "CONFIG_BPF_SYSCALL",
		ebpf.ErrNotSupported: "Linux 6.6",
	} {
		got := explain(fmt.Errorf("try: %w", err))
		if !errors.Is(got, err) || !strings.Contains(got.Error(), want) {
			t.Errorf("%v: %v, does not say %q", err, got, want)
		}
	}
	other := errors.New("other")
	if explain(other) != other || explain(nil) != nil {
		t.Error("an error of another kind was changed")
	}
}
