package etcd

import (
	"math"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy is a TCP path to an etcd that can be cut or go silent.
type proxy struct {
	url    string
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	change *sync.Cond
	silent int // connections up to this number let nothing through
	closed bool
	conns  map[net.Conn]bool // both sides
	dialed int               // connections accepted so far
}

func newProxy(t testing.TB, endpoint string) *proxy {
	t.Helper()
	return newProxyOn(t, "127.0.0.1", endpoint)
}

func newProxyOn(t testing.TB, host, endpoint string) *proxy {
	t.Helper()
	scheme, target, _ := strings.Cut(endpoint, "://")
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		url:    scheme + "://" + l.Addr().String(),
		target: target,
		l:      l,
		conns:  map[net.Conn]bool{},
	}
	p.change = sync.NewCond(&p.mu)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.change.Broadcast()
		p.mu.Unlock()
		l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.dialed++
		number := p.dialed
		p.mu.Unlock()
		p.wg.Go(func() {
			out, err := net.Dial("tcp", p.target)
			if err != nil {
				in.Close()
				return
			}
			if !p.add(in, out) {
				return
			}
			p.wg.Go(func() { p.copy(out, in, number) })
			p.copy(in, out, number)
		})
	}
}

func (p *proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			c.Close()
		}
		p.conns[c] = true
	}
	return !p.closed
}

// copy passes bytes on, and keeps those that arrive in silence until it ends.
func (p *proxy) copy(to, from net.Conn, number int) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for number <= p.silent && !p.closed {
			p.change.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends every connection; new ones are let through.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// silence lets nothing through, in old connections and in new ones, though
// both seem to stand.
func (p *proxy) silence() { p.silenceUpTo(math.MaxInt) }

// freeze does that to the present connections only.
func (p *proxy) freeze() { p.silenceUpTo(p.accepted()) }

// thaw ends both; nothing was lost.
func (p *proxy) thaw() { p.silenceUpTo(0) }

func (p *proxy) silenceUpTo(number int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = number
	p.change.Broadcast()
}

func (p *proxy) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialed
}
