package packet

import (
	"encoding/binary"
	"testing"
)

func hashOf(t *testing.T, p []byte) uint32 {
	t.Helper()
	info := mustParse(t, p)
	return FlowHash(p, &info)
}

func TestFlowHash(t *testing.T) {
	for name, base := range map[string]spec{"IPv4": {}, "IPv6": {src: "fd00::1", dst: "fd00::2"}} {
		h := hashOf(t, base.build())
		same := base
		same.seq, same.flags, same.payload, same.tos, same.id, same.ttl = 7, tcpSYN, bytesOf(9), 3, 8, 9
		if hashOf(t, same.build()) != h {
			t.Errorf("%s: packets of one flow hash differently", name)
		}
		for what, s := range map[string]spec{
			"source port": {sport: 1}, "destination port": {dport: 1}, "protocol": {udp: true},
		} {
			s.src, s.dst = base.src, base.dst
			if hashOf(t, s.build()) == h {
				t.Errorf("%s: %s makes no difference", name, what)
			}
		}
	}
	first, later := spec{udp: true, payload: bytesOf(16)}.build(), spec{udp: true, sport: 1, payload: bytesOf(16)}.build()
	binary.BigEndian.PutUint16(first[6:], ipv4MF)
	binary.BigEndian.PutUint16(later[6:], 3)
	if hashOf(t, first) != hashOf(t, later) {
		t.Error("fragments of one flow hash differently")
	}
}

// Flows that differ in one port must spread over few queues.
func TestFlowHashSpreads(t *testing.T) {
	for name, base := range map[string]spec{"IPv4": {}, "IPv6": {src: "fd00::1", dst: "fd00::2"}} {
		var queues [4]int
		for port := range uint16(1024) {
			base.sport = 32768 + port
			queues[hashOf(t, base.build())%4]++
		}
		for q, n := range queues {
			if n < 192 || n > 320 {
				t.Errorf("%s: queue %d of 4 got %d of 1024 flows", name, q, n)
			}
		}
	}
}
