package udp

import "sync"

// memRing is a ring in memory. As from the kernel's, packets are taken by copies, each
// at a multiple of 64 bytes, as many as there is room for.
type memRing struct {
	memWaiter
	mu      sync.Mutex
	packets [][]byte
}

var _ ringPort = (*memRing)(nil)

func (m *memRing) give(packets ...[]byte) {
	m.mu.Lock()
	m.packets = append(m.packets, packets...)
	m.mu.Unlock()
	m.wake()
}

func (m *memRing) waiting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.packets) > 0
}

func (m *memRing) Take(arena []byte, packets [][]byte) (n int, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := 0
	for ; len(m.packets) > 0 && n < len(packets) && len(m.packets[0]) <= len(arena)-at; n++ {
		size := copy(arena[at:], m.packets[0])
		packets[n] = arena[at : at+size]
		at = min((at+size+63)&^63, len(arena))
		m.packets = m.packets[1:]
	}
	return n, len(m.packets) > 0
}

// sendByRing passes packets through the sending loop, in turns of a worker.
func (m *memNode) sendByRing(packets ...[]byte) error {
	m.ring.give(packets...)
	for m.ring.waiting() {
		if err := m.sender.serve(0); err != nil {
			return err
		}
	}
	return nil
}

// datagrams are what messages were cut into.
func datagrams(sent []memSend) (list [][]byte) {
	for _, s := range sent {
		size := s.segment
		if size == 0 {
			size = len(s.payload)
		}
		for b := s.payload; len(b) > 0; b = b[min(size, len(b)):] {
			list = append(list, b[:min(size, len(b))])
		}
	}
	return list
}
