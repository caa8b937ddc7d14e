package webhook_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/konstruct/konstruct/internal/testkit"
	"github.com/konstruct/konstruct/webhook"
)

// TestARedirectIsNotFollowed, neither to a private address nor to any other.
func TestARedirectIsNotFollowed(t *testing.T) {
	w, inside := newWorld(t), receive(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		r := receive(t, func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Location", inside.url+"/latest/meta-data")
			out.WriteHeader(status)
		})
		_, e := w.endpoint(acme, r.url)
		d := w.test(acme, e)
		testkit.Until(t, "an attempt", func() bool {
			_, a := w.delivery(acme, d)
			return len(a) == 1 && a[0].Status != nil
		})
		if found, a := w.delivery(acme, d); *a[0].Status != status || found.State != webhook.Queued ||
			!strings.Contains(a[0].Error, "not followed") {
			t.Errorf("%+v %+v", found, a)
		}
	}
	if n := len(inside.got()); n != 0 {
		t.Errorf("what it leads to was asked %d times", n)
	}
}

// TestASlowEndpointHoldsUpNobody: one answers nothing, and one a byte a second for ever. Meanwhile others of the same
// tenant and of another one get their messages at once.
func TestASlowEndpointHoldsUpNobody(t *testing.T) {
	w, quick := newWorld(t), receive(t, nil)
	silent := receive(t, func(_ http.ResponseWriter, in *http.Request) { <-in.Context().Done() })
	dribbling := receive(t, func(out http.ResponseWriter, in *http.Request) {
		for {
			if _, err := out.Write([]byte(".")); err != nil || http.NewResponseController(out).Flush() != nil {
				return
			}
			select {
			case <-in.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	_, one := w.endpoint(acme, silent.url, webhook.QuotaExceeded)
	_, two := w.endpoint(acme, dribbling.url, webhook.QuotaExceeded)
	w.endpoint(acme, quick.url, webhook.EscalationOpened)
	w.endpoint(globex, quick.url, webhook.EscalationOpened)
	first, second := w.test(acme, one), w.test(acme, two)
	for range 50 { // more than the endpoints may have at one time
		w.emit(acme, webhook.QuotaExceeded)
	}
	testkit.Until(t, "the slow ones are asked", func() bool {
		return len(silent.got()) >= 4 && len(dribbling.got()) >= 4
	})
	began := time.Now()
	for range 20 {
		w.emit(acme, webhook.EscalationOpened)
		w.emit(globex, webhook.EscalationOpened)
	}
	testkit.Until(t, "the quick one has all", func() bool { return len(quick.got()) == 40 })
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("a slow endpoint held up others for %s", took)
	} else {
		t.Logf("40 messages past two slow endpoints in %s", took.Round(time.Millisecond))
	}
	if n := len(silent.got()); n > 4 {
		t.Errorf("%d requests at one time to one endpoint", n)
	}
	for _, d := range []webhook.Delivery{first, second} {
		testkit.Until(t, "the attempt ends", func() bool {
			_, a := w.delivery(acme, d)
			return a[len(a)-1].FinishedAt != nil
		})
		_, a := w.delivery(acme, d)
		if last := a[len(a)-1]; last.FinishedAt.Sub(last.StartedAt) > 17*time.Second ||
			!strings.Contains(last.Error, "no whole response within 15s") {
			t.Errorf("%+v", last)
		}
	}
}

// TestAHugeResponseIsNotRead: what is sent is what was answered, and of a gigabyte a few kilobytes are read.
func TestAHugeResponseIsNotRead(t *testing.T) {
	w := newWorld(t)
	var sent atomic.Int64
	r := receive(t, func(out http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 1 << 10 {
			n, err := out.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	})
	_, e := w.endpoint(acme, r.url)
	_, attempts := w.until(acme, w.test(acme, e), webhook.Delivered)
	if len(attempts) != 1 || len(attempts[0].Response) > 2000 || sent.Load() > 64<<20 {
		t.Errorf("%d bytes were sent, %d attempts", sent.Load(), len(attempts))
	}
	headers := receive(t, func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("X", strings.Repeat("x", 1<<20))
	})
	_, e = w.endpoint(acme, headers.url)
	d := w.test(acme, e)
	testkit.Until(t, "an attempt", func() bool { _, a := w.delivery(acme, d); return len(a) == 1 && a[0].Error != "" })
}

// TestANameThatLeadsInsideIsNotConnectedTo, nor one that led elsewhere a moment ago, and it is told like a name that
// does not exist.
func TestANameThatLeadsInsideIsNotConnectedTo(t *testing.T) {
	var connected atomic.Int64
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { connected.Add(1) }))
	t.Cleanup(inside.Close)
	dns, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dns.Close() })
	var asked atomic.Int64
	go answerNames(dns, func(name string) (ip [4]byte, there bool) {
		switch {
		case strings.HasPrefix(name, "nowhere."):
			return ip, false
		case strings.HasPrefix(name, "rebinds.") && asked.Add(1) == 1:
			return [4]byte{192, 0, 2, 1}, true // documentation: it answers nobody
		}
		return [4]byte{127, 0, 0, 1}, true
	})
	d := testkit.Database(t)
	w := &world{t: t, d: d, door: testkit.DoorOf(t, d)}
	w.endpoints = newEndpoints(w.door)
	w.endpoints.Resolve(&net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", dns.LocalAddr().String())
	}}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}) // so that ports are free, and 127.0.0.1 is not
	w.work(100*time.Millisecond, 100*time.Millisecond)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(inside.URL, "https://"))
	reasons := map[string]bool{}
	for _, host := range []string{"inside.example", "nowhere.example", "rebinds.example"} {
		_, e := w.endpoint(acme, "https://"+host+":"+port+"/")
		found, attempts := w.until(acme, w.test(acme, e), webhook.Dead)
		if len(attempts) != 3 {
			t.Errorf("%s: %+v", host, attempts)
		}
		reasons[found.Reason] = true
	}
	if connected.Load() != 0 || len(reasons) != 1 || !reasons["it has no public address on port 443 or 8443"] {
		t.Errorf("%d connections, told %v", connected.Load(), reasons)
	}
}

// answerNames is a name server.
func answerNames(dns net.PacketConn, look func(name string) (ip [4]byte, there bool)) {
	b := make([]byte, 1500)
	for {
		n, from, err := dns.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil {
			continue
		}
		m.Response, m.Additionals = true, nil
		if name := m.Questions[0].Name; m.Questions[0].Type == dnsmessage.TypeA {
			if ip, there := look(name.String()); there {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: name,
					Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: ip}}}
			} else {
				m.RCode = dnsmessage.RCodeNameError
			}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = dns.WriteTo(out, from)
		}
	}
}

// TestAKilledWorkersMessageIsSentAgain with the same id: at least once.
func TestAKilledWorkersMessageIsSentAgain(t *testing.T) {
	d := testkit.Database(t)
	w := &world{t: t, d: d, door: testkit.DoorOf(t, d)}
	w.endpoints = newEndpoints(w.door)
	var times atomic.Int64
	r := receive(t, func(_ http.ResponseWriter, in *http.Request) {
		if times.Add(1) == 1 {
			<-in.Context().Done() // in the middle of the first delivery
		}
	})
	secret, e := w.endpoint(acme, r.url)
	sent := w.test(acme, e)
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "WEBHOOK_TEST_APP="+d.URL("konstruct_app"),
			"WEBHOOK_TEST_WORKER="+d.URL("konstruct_worker"))
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	first := start()
	testkit.Until(t, "the request is made", func() bool { return len(r.got()) == 1 })
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.super(`UPDATE webhook_deliveries SET due = now() + interval '2 seconds'`) // its lease ends sooner
	w.super(`UPDATE river_job SET scheduled_at = now() + interval '2 seconds' WHERE state = 'scheduled'`)
	start()
	_, attempts := w.until(acme, sent, webhook.Delivered)
	if len(attempts) != 2 || attempts[1].FinishedAt != nil || attempts[1].Error != "the worker that sent it died" {
		t.Errorf("%+v", attempts)
	}
	all := r.got()
	if len(all) != 2 || all[0].header.Get("webhook-id") != all[1].header.Get("webhook-id") ||
		all[1].header.Get("webhook-id") != sent.Message.String() || verify(secret, all[1]) != nil {
		t.Errorf("%d requests", len(all))
	}
}

// TestAWaitingDeliveryDelaysNoNewOne: a ticket waits for minutes, and a message that is due now gets its own.
func TestAWaitingDeliveryDelaysNoNewOne(t *testing.T) {
	w := newWorld(t, 5*time.Minute)
	bad := receive(t, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusBadGateway) })
	good := receive(t, nil)
	_, failing := w.endpoint(acme, bad.url, webhook.QuotaExceeded)
	w.endpoint(acme, good.url, webhook.EscalationOpened)
	w.test(acme, failing)
	open := `SELECT count(*) FROM river_job WHERE finalized_at IS NULL AND `
	testkit.Until(t, "the ticket waits", func() bool {
		return len(bad.got()) == 1 &&
			w.count(open+`state = 'scheduled' AND scheduled_at > now() + interval '3 minutes'`) == 1
	})
	for n := range 3 {
		began := time.Now()
		w.emit(acme, webhook.EscalationOpened)
		testkit.Until(t, "the message", func() bool { return len(good.got()) == n+1 })
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("message %d was delayed by %s", n, took)
		}
		testkit.Until(t, "one ticket waits", func() bool { return w.count(open+`true`) == 1 })
	}
	w.super(`UPDATE webhook_deliveries SET due = now() WHERE state = 'queued'`)
	w.super(`UPDATE river_job SET scheduled_at = now() WHERE state = 'scheduled'`)
	testkit.Until(t, "the second attempt", func() bool { return len(bad.got()) == 2 })
}

// TestADueMessageWaitsAndGoesWithTheAnswer: it is sent when the escalation is due, unless that was answered.
func TestADueMessageWaitsAndGoesWithTheAnswer(t *testing.T) {
	w, r := newWorld(t), receive(t, nil)
	w.endpoint(acme, r.url, webhook.EscalationDue)
	open := func(due string) (id string) {
		w.tx(acme, func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `INSERT INTO audit_events (tenant_id, action_type, metadata)
				VALUES ($1, 'escalation', $2::jsonb) RETURNING id::text`, acme, due).Scan(&id)
		})
		return id
	}
	in := func(d time.Duration) string {
		return fmt.Sprintf(`{"konstruct.escalation.due": %q}`, time.Now().Add(d).UTC().Format(time.RFC3339Nano))
	}
	answered, due, usual := open(in(time.Hour)), open(in(3*time.Second)), open(`{}`)
	open(`{"konstruct.escalation.due": "never"}`)
	if n := w.count(`SELECT count(*) FROM webhook_deliveries WHERE due BETWEEN now() + interval '59 minutes' AND
		now() + interval '61 minutes'`); n != 3 || usual == "" {
		t.Errorf("%d wait for an hour", n)
	}
	w.tx(acme, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO audit_events (tenant_id, action_type, metadata) VALUES
			($1, 'escalation_resolved', jsonb_build_object('konstruct.escalation.id', $2::text))`, acme, answered)
		return err
	})
	if n := w.count(`SELECT count(*) FROM webhook_messages`); n != 3 {
		t.Errorf("%d messages wait after an answer", n)
	}
	began := time.Now()
	testkit.Until(t, "the message", func() bool { return len(r.got()) == 1 })
	if took := time.Since(began); took < 2*time.Second || !strings.Contains(string(r.got()[0].body), due) {
		t.Errorf("after %s: %s", took, r.got()[0].body)
	}
}
