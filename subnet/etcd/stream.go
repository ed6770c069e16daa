package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/weftnet/weft/subnet"
)

// stream is one watch on one gRPC stream. It is used instead of clientv3's
// watcher because that one mends itself for ever, out of sight: it neither
// tells that it is stuck nor bounds its retries.
type stream struct {
	cancel    context.CancelFunc
	opened    chan pb.Watch_WatchClient // once
	responses chan *pb.WatchResponse
	err       chan error // once, after the last response
	done      chan struct{}

	after  int64                // revision that events come after
	client pb.Watch_WatchClient // nil until opened
	stands bool                 // etcd said that the watch is made
	asked  bool                 // for progress, and nothing came since
}

// openStream starts a watch of a key, or of a range where end is not "", for
// changes after a revision.
//
// It asks etcd for that revision too and drops it: of a watch that starts in
// the future etcd reports no progress, as it does not exist yet, so that a
// quiet one would look stuck.
func openStream(ctx context.Context, c *clientv3.Client, key, end string, after int64) *stream {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	s := &stream{
		cancel:    cancel,
		opened:    make(chan pb.Watch_WatchClient, 1),
		responses: make(chan *pb.WatchResponse),
		err:       make(chan error, 1),
		done:      make(chan struct{}),
		after:     after,
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key:           []byte(key),
		RangeEnd:      []byte(end),
		StartRevision: max(after, 1), // 0 would mean now
	}}}
	go func() {
		defer close(s.done)
		s.err <- s.receive(ctx, c.ActiveConnection(), create)
	}()
	return s
}

// receive opens the stream and passes its responses on until it breaks.
func (s *stream) receive(ctx context.Context, conn *grpc.ClientConn, create *pb.WatchRequest) error {
	client, err := pb.NewWatchClient(conn).Watch(ctx, grpc.MaxCallRecvMsgSize(maxResponse))
	if err != nil {
		return err
	}
	if err := client.Send(create); err != nil {
		return err
	}
	s.opened <- client
	for {
		resp, err := client.Recv()
		if err != nil {
			return err
		}
		select {
		case s.responses <- resp:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxResponse bounds one response, in bytes: history of up to a thousand
// revisions, each of at most the 1.5 MB that etcd takes in a request. Real
// ones are below one megabyte.
const maxResponse = 1 << 30

// next returns the next response. After a quiet time it asks etcd for a sign
// of life, and gives the stream up if none comes; a broken path through a
// middlebox, or a stuck member, would go unnoticed otherwise.
func (s *stream) next(ctx context.Context, t timing) (*pb.WatchResponse, error) {
	for {
		limit := t.watchQuiet
		switch {
		case !s.stands:
			limit = t.watchOpen
		case s.asked:
			limit = t.watchAnswer
		}
		timer := time.NewTimer(limit)
		select {
		case resp := <-s.responses:
			timer.Stop()
			s.asked = false
			resp.Events = slices.DeleteFunc(resp.Events, func(ev *mvccpb.Event) bool {
				return ev.Kv.ModRevision <= s.after
			})
			return resp, s.check(resp)
		case s.client = <-s.opened:
			timer.Stop()
		case err := <-s.err:
			timer.Stop()
			return nil, err
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
			switch {
			case !s.stands:
				return nil, fmt.Errorf("the watch did not stand within %v", t.watchOpen)
			case s.asked:
				return nil, fmt.Errorf("the watch gave no sign of life within %v", t.watchQuiet+t.watchAnswer)
			}
			if err := s.client.Send(progress); err != nil {
				return nil, err
			}
			s.asked = true
		}
	}
}

var progress = &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}

// check returns the error that a response stands for.
func (s *stream) check(resp *pb.WatchResponse) error {
	switch {
	case resp.CompactRevision != 0:
		return fmt.Errorf("history begins at revision %d: %w", resp.CompactRevision, subnet.ErrCompacted)
	case resp.Canceled && resp.CancelReason == "":
		return errors.New("etcd canceled the watch")
	case resp.Canceled:
		return errors.New(resp.CancelReason)
	case resp.Created:
		s.stands = true
	}
	return nil
}

// close ends the stream and waits until nothing of it runs.
func (s *stream) close() {
	s.cancel()
	<-s.done
}
