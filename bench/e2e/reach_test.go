package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
)

func TestTwoHostsReachEachOther(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, b := c.hosts[0].Container, c.hosts[1].Container
	if _, err := traffic.SendChecked(ctx, a.Namespace, b.Namespace, b.IPv4, 64<<20, "", nil); err != nil {
		t.Error(err)
	}
	for _, size := range []int{64, 1200, 4000} {
		echoes(t, "UDP", b.Namespace, a.Namespace, a.IPv4, traffic.EchoOptions{Count: 200, Size: size})
	}
}
