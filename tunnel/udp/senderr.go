package udp

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

const (
	// maxPatience is how often one flush waits for the kernel in all, so that
	// a stuck underlay costs one batch some 30 ms and not each message.
	maxPatience = 3

	bufferWait = 10 * time.Millisecond // for room in the socket's buffer
	queueWait  = time.Millisecond      // for room in a queue, which cannot be waited for

	// maxRetries is how often a send is repeated that failed with an error
	// which may be that of an earlier packet, or may pass.
	maxRetries = 2

	// maxStray is how many errors of earlier packets, which routers and hosts
	// send back, one flush puts up with; they may come without end.
	maxStray = 64
)

// push sends messages until one fails for good, and returns how many went.
func (b *sendBatch) push(headers []unix.Mmsghdr) (sent int, errno unix.Errno) {
	retries := 0
	for sent < len(headers) {
		n, errno := b.port.sendmmsg(headers[sent:])
		switch {
		case errno == 0:
			sent += n
			retries = 0
		case b.stray > 0 && b.isStray(errno):
			b.stray--
		case retries < maxRetries && b.again(errno):
			retries++
		default:
			return sent, errno
		}
	}
	return sent, 0
}

// isStray reports whether an error is one about an earlier packet, to any peer:
// the next call on the socket returns it, and does nothing else.
func (b *sendBatch) isStray(errno unix.Errno) bool {
	switch errno {
	case unix.EINTR, unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EBADF, unix.ENOTSOCK:
		return false
	}
	return b.errors.drain() > 0
}

// again prepares for sending the same message again, and reports whether that
// makes sense.
func (b *sendBatch) again(errno unix.Errno) bool {
	switch errno {
	case unix.EAGAIN:
		return b.pause(unix.POLLOUT, bufferWait)
	case unix.ENOBUFS, unix.ENOMEM:
		return b.pause(0, queueWait)
	case unix.EBADF, unix.ENOTSOCK:
		return false
	}
	// Interrupted; or a stray error after all, that another reader of the
	// queue has taken out.
	return true
}

func (b *sendBatch) pause(events int16, timeout time.Duration) bool {
	if b.patience == 0 {
		return false
	}
	b.patience--
	b.rest(events, timeout)
	return true
}

// failed deals with message i, which could not be sent.
func (b *sendBatch) failed(i int, errno unix.Errno) error {
	m := &b.messages[i]
	if m.count > 1 && refusesCutting(errno) {
		return b.sendSingly(i)
	}
	return b.dropped(m.peer, m.count, errno)
}

// refusesCutting tells whether an error may be due to UDP_SEGMENT: EIO from a
// route without checksum offload (before Linux 6.11) or with IPsec, EINVAL or
// EMSGSIZE from a route with a smaller MTU, EINVAL from some drivers.
func refusesCutting(errno unix.Errno) bool {
	return errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE || errno == unix.EOPNOTSUPP
}

// sendSingly sends the datagrams of message i one by one. If all go, cutting
// was at fault, and is not tried again towards that peer for a while.
func (b *sendBatch) sendSingly(i int) error {
	m := &b.messages[i]
	pieces := b.iovecs[m.iov : m.iov+m.niov]
	h := &b.single[0].Hdr
	*h = b.headers[i].Hdr
	h.SetControllen(controlTOS)
	allSent := true
	for i := range m.count {
		n, bytes := 0, 0
		for n < len(pieces) && bytes < m.size {
			bytes += int(pieces[n].Len)
			n++
		}
		h.Iov = &pieces[0]
		h.SetIovlen(n)
		pieces = pieces[n:]
		if sent, errno := b.push(b.single); sent == 0 {
			allSent = false
			if refusesCutting(errno) {
				// It was not the cutting, and the others fare no better.
				return b.dropped(m.peer, m.count-i, errno)
			}
			if err := b.dropped(m.peer, 1, errno); err != nil {
				return err
			}
			continue
		}
		m.peer.State.Tx.Count(1, bytes)
		b.counters.out.add(1, 1)
	}
	if allSent {
		m.peer.State.Unbatched.Set(1, time.Now().Add(unbatchedFor))
	}
	return nil
}

// dropped counts packets that could not be sent, and says so now and then. An
// error means that the socket is of no use any more.
func (b *sendBatch) dropped(peer *tunnel.Peer, packets int, errno unix.Errno) error {
	why := sendFailed
	switch errno {
	case unix.EBADF, unix.ENOTSOCK:
		return fmt.Errorf("send to %v: %w", peer.Endpoint, errno)
	case unix.EAGAIN:
		why = socketFull
	case unix.ENOBUFS, unix.ENOMEM:
		why = queueFull
	case unix.EMSGSIZE:
		why = tooBig
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN, unix.ENODEV, unix.EADDRNOTAVAIL, unix.EINVAL:
		// EINVAL is what a socket gets whose address this host has no more.
		why = unreachable
	case unix.EPERM:
		why = filtered
		peer.State.Filtered.Add(uint64(packets))
	}
	b.counters.drop(why, packets)
	b.trouble.cannotSend(why, peer, errno)
	return nil
}
