#include "server/http/http_server.h"

#include <microhttpd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/http/listen.h"
#include "server/http/tls.h"

namespace orch::http {
namespace {

constexpr int kWorkers = 4;
constexpr int kWaiters = 32;
constexpr int kTransfers = 4;
constexpr size_t kStreamPiece = 1 << 20;        // of a body that is passed on as it comes
constexpr size_t kConnectionMemory = 16 << 10;  // request line and headers; more gets 431

// A body as it comes: growing one string of it would copy, and hold it twice while it does.
class Body {
 public:
  size_t size() const { return size_; }
  void Append(const char* data, size_t size) {
    size_ += size;
    if (pieces_.empty() || pieces_.back().size() + size > kPiece) {
      pieces_.emplace_back();
      if (pieces_.size() > 1) pieces_.back().reserve(kPiece);
    }
    pieces_.back().append(data, size);
  }
  void Drop() {
    pieces_.clear();
    size_ = 0;
  }
  // All of it; each piece is freed as soon as it is copied. Nothing is left.
  std::string Take() {
    std::string whole;
    if (pieces_.size() == 1) {
      whole.swap(pieces_.front());
      pieces_.clear();
    }
    whole.reserve(size_);
    for (; !pieces_.empty(); pieces_.pop_front()) whole += pieces_.front();
    return whole;
  }

 private:
  static constexpr size_t kPiece = 256 << 10;  // large enough for the allocator to give each back to the system
  std::deque<std::string> pieces_;
  size_t size_ = 0;
};

// One request from its head to its answer. Made and used by the loop; while `posted` and not `done` a worker has it and
// the connection is suspended.
struct Exchange {
  Request request;
  Body body;
  Response response;
  bool too_large = false;
  bool posted = false;
  std::atomic<bool> done{false};
  // A body that is passed on: while a worker has one piece of it, the loop gathers the next, and then waits with the
  // connection suspended. `taken`, `sink` and, until `done`, `response` are the worker's.
  bool streams = false;
  std::string taken;
  std::unique_ptr<BodySink> sink;
  std::atomic<bool> refused{false};  // the rest is dropped, `response` says why
  Mutex mutex;
  std::string piece ABSL_GUARDED_BY(mutex);
  bool working ABSL_GUARDED_BY(mutex) = false;  // a worker has `taken`
  bool waiting ABSL_GUARDED_BY(mutex) = false;  // the connection is suspended
  bool last ABSL_GUARDED_BY(mutex) = false;     // all of the body has come
};
// A worker may still have it when its connection has broken.
using SharedExchange = std::shared_ptr<Exchange>;

MHD_Response* Made(const Response& response) {
  if (response.file == nullptr) {
    return MHD_create_response_from_buffer(response.body.size(), const_cast<char*>(response.body.data()),
                                           MHD_RESPMEM_MUST_COPY);
  }
  const int fd = response.file->Release();
  MHD_Response* made = MHD_create_response_from_fd_at_offset64(static_cast<uint64_t>(response.file->size()), fd,
                                                               static_cast<uint64_t>(response.file->offset()));
  if (made == nullptr) ::close(fd);  // else the library closes it
  return made;
}

MHD_Result Queue(MHD_Connection* connection, const Response& response, bool close) {
  MHD_Response* made = Made(response);
  if (made == nullptr) return MHD_NO;
  MHD_add_response_header(made, MHD_HTTP_HEADER_CONTENT_TYPE, response.content_type.c_str());
  MHD_add_response_header(made, "X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.headers) MHD_add_response_header(made, name.c_str(), value.c_str());
  if (close) MHD_add_response_header(made, MHD_HTTP_HEADER_CONNECTION, "close");
  const MHD_Result queued = MHD_queue_response(connection, static_cast<unsigned>(response.status), made);
  MHD_destroy_response(made);
  return queued;
}

struct Headers {
  std::map<std::string, std::string>* values;
  bool framing_twice = false;  // two lengths, or a length and an encoding: others may read the body otherwise than we
};

MHD_Result AddHeader(void* out, MHD_ValueKind, const char* key, const char* value) {
  auto* headers = static_cast<Headers*>(out);
  const std::string name = absl::AsciiStrToLower(key);
  if (name == "content-length" || name == "transfer-encoding") {
    headers->framing_twice |=
        headers->values->count("content-length") + headers->values->count("transfer-encoding") > 0;
  }
  (*headers->values)[name] = value == nullptr ? "" : value;
  return MHD_YES;
}
MHD_Result AddArgument(void* out, MHD_ValueKind, const char* key, const char* value) {
  auto* arguments = static_cast<std::map<std::string, std::string>*>(out);
  (*arguments)[key] = value == nullptr ? "" : value;
  return MHD_YES;
}

void LogLibrary(void*, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof(line), format, arguments);
  Log(LogLevel::kDebug, "http", {{"text", absl::StripAsciiWhitespace(line)}});
}

}  // namespace

struct HttpServer::Listener {
  HttpServer* server = nullptr;
  rpc::Transport transport = rpc::Transport::kTcp;
  MHD_Daemon* daemon = nullptr;

  HeadWatch* watch = nullptr;  // of TCP

  // The library's notes of a connection are all that it may be found by, from its beginning to its end.
  static void Connected(void* self, MHD_Connection* connection, void** note, MHD_ConnectionNotificationCode code) {
    HeadWatch* watch = static_cast<Listener*>(self)->watch;
    if (watch == nullptr) return;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
      const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
      *note = info == nullptr ? nullptr : watch->Opened(info->connect_fd);
    } else if (*note != nullptr) {
      watch->Closed(static_cast<HeadWatch::Connection*>(*note));
      *note = nullptr;
    }
  }

  static HeadWatch::Connection* NoteOf(MHD_Connection* connection) {
    const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == nullptr ? nullptr : static_cast<HeadWatch::Connection*>(info->socket_context);
  }

  static MHD_Result Handle(void* self, MHD_Connection* connection, const char* url, const char* method, const char*,
                           const char* upload, size_t* upload_size, void** state) {
    auto* listener = static_cast<Listener*>(self);
    if (*state == nullptr) return listener->Begin(connection, url, method, state);
    const SharedExchange& exchange = *static_cast<SharedExchange*>(*state);
    if (*upload_size > 0 && exchange->streams) {
      bool full = false;
      if (!exchange->refused) {
        MutexLock lock(&exchange->mutex);
        exchange->piece.append(upload, *upload_size);
        full = exchange->piece.size() >= kStreamPiece;
      }
      *upload_size = 0;
      return full ? listener->PassOn(connection, exchange, /*last=*/false) : MHD_YES;
    }
    if (*upload_size > 0) {
      const auto limit = static_cast<size_t>(listener->server->router_->body_limit());
      if (exchange->body.size() + *upload_size > limit) {
        exchange->too_large = true;  // read on and drop, so that the client gets to see the answer
        exchange->body.Drop();
      }
      if (!exchange->too_large) exchange->body.Append(upload, *upload_size);
      *upload_size = 0;
      return MHD_YES;
    }
    return listener->Answer(connection, exchange);
  }

  MHD_Result Begin(MHD_Connection* connection, const char* url, const char* method, void** state) {
    if (HeadWatch::Connection* note = watch == nullptr ? nullptr : NoteOf(connection)) watch->HeadCame(note);
    auto exchange = std::make_shared<Exchange>();
    exchange->request.transport = transport;
    exchange->request.method = method;
    exchange->request.path = url;
    Headers headers{&exchange->request.headers};
    MHD_get_connection_values(connection, MHD_HEADER_KIND, &AddHeader, &headers);
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, &AddArgument, &exchange->request.query);
    int64_t length = 0;
    const std::string declared = exchange->request.header("content-length");
    if (!declared.empty() && !absl::SimpleAtoi(declared, &length)) length = 0;
    const bool has_body = length > 0 || !exchange->request.header("transfer-encoding").empty();
    std::optional<Response> early = server->router_->Precheck(exchange->request, length);
    if (headers.framing_twice) {
      early.emplace();
      early->status = 400;
      early->body = "the body's length is said twice\n";
    }
    // An answer queued now ends the connection; without a body to refuse it waits for the library's next call.
    if (early && !has_body) {
      exchange->response = *early;
      exchange->posted = exchange->done = true;
    }
    exchange->streams = !early && server->router_->Streams(exchange->request);
    *state = new SharedExchange(std::move(exchange));
    if (early && has_body) return Queue(connection, *early, /*close=*/true);
    return MHD_YES;
  }

  // Gives what has come of a body to its sink, and with the last of it waits for the answer.
  MHD_Result PassOn(MHD_Connection* connection, const SharedExchange& exchange, bool last) {
    MutexLock lock(&server->mutex_);
    if (server->stopping_) return MHD_NO;  // the client goes on when the daemon is back
    MutexLock own(&exchange->mutex);
    exchange->posted = exchange->last = last;
    if (exchange->working || last) {
      exchange->waiting = true;
      MHD_suspend_connection(connection);
    }
    if (exchange->working) return MHD_YES;  // the worker goes on with it
    exchange->working = true;
    exchange->taken.swap(exchange->piece);
    PostPiece(connection, exchange);
    return MHD_YES;
  }

  // One piece at a time, so that uploads take turns.
  void PostPiece(MHD_Connection* connection, const SharedExchange& exchange) {
    server->transfers_.Post([this, connection, exchange] { TakePiece(connection, exchange); });
  }

  void TakePiece(MHD_Connection* connection, const SharedExchange& exchange) {
    if (exchange->sink == nullptr && !exchange->refused) {
      exchange->sink = server->router_->OpenSink(exchange->request, &exchange->response);
      exchange->refused = exchange->sink == nullptr;
    }
    if (!exchange->refused && !exchange->taken.empty() && !exchange->sink->Append(exchange->taken)) {
      exchange->response = exchange->sink->Finish();
      exchange->refused = true;
    }
    exchange->taken.clear();
    if (exchange->refused) exchange->sink.reset();
    {
      MutexLock lock(&exchange->mutex);
      if (!exchange->waiting) {  // the loop gathers still; the connection may be gone by now
        exchange->working = false;
        return;
      }
      const bool more = !exchange->piece.empty() && !exchange->refused;
      if (more) exchange->taken.swap(exchange->piece);
      if (!exchange->last) {
        exchange->waiting = false;
        exchange->working = more;
        MHD_resume_connection(connection);
      }
      if (more) PostPiece(connection, exchange);
      if (more || !exchange->last) return;
    }
    // All of it was taken, and nobody but this thread has it until the connection goes on.
    if (!exchange->refused) exchange->response = exchange->sink->Finish();
    exchange->sink.reset();
    exchange->done = true;
    MHD_resume_connection(connection);
  }

  MHD_Result Answer(MHD_Connection* connection, const SharedExchange& exchange) {
    if (exchange->done) return Queue(connection, exchange->response, /*close=*/false);
    if (exchange->too_large) {
      Response refused;
      refused.status = 413;
      refused.body = absl::StrCat("the body is larger than ", server->router_->body_limit(), " bytes\n");
      return Queue(connection, refused, /*close=*/true);
    }
    if (exchange->posted) return MHD_YES;
    if (exchange->streams) return PassOn(connection, exchange, /*last=*/true);
    MutexLock lock(&server->mutex_);
    if (server->stopping_) {
      Response refused;
      refused.status = 503;
      refused.body = "orchd is stopping\n";
      return Queue(connection, refused, /*close=*/true);
    }
    exchange->posted = true;
    MHD_suspend_connection(connection);
    rpc::WorkerPool& pool = server->router_->Waits(exchange->request)       ? server->waiters_
                            : server->router_->Transfers(exchange->request) ? server->transfers_
                                                                            : server->workers_;
    pool.Post([router = server->router_, connection, exchange] {
      exchange->request.body = exchange->body.Take();
      exchange->response = router->Serve(exchange->request);
      exchange->request.body = std::string();
      exchange->done = true;
      MHD_resume_connection(connection);
    });
    return MHD_YES;
  }

  static void Completed(void* self, MHD_Connection* connection, void** state, MHD_RequestTerminationCode) {
    HeadWatch* watch = static_cast<Listener*>(self)->watch;
    if (HeadWatch::Connection* note = watch == nullptr ? nullptr : NoteOf(connection)) watch->Answered(note);
    delete static_cast<SharedExchange*>(*state);
    *state = nullptr;
  }
};

HttpServer::HttpServer(const Router* router)
    : router_(router), workers_(kWorkers), waiters_(kWaiters), transfers_(kTransfers) {}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const Router* router, const Options& options) {
  std::unique_ptr<HttpServer> server(new HttpServer(router));
  if (!options.listen.empty()) {
    ASSIGN_OR_RETURN(const HostPort wanted, ParseAddress(options.listen));
    ASSIGN_OR_RETURN(const auto bound, ListenTcp(wanted));
    server->address_ = bound.second;
    RETURN_IF_ERROR(server->Serve(bound.first, rpc::Transport::kTcp, options.tls, options));
  }
  if (!options.unix_path.empty()) {
    ASSIGN_OR_RETURN(const int fd, ListenUnix(options.unix_path));
    server->unix_paths_.push_back(options.unix_path);
    RETURN_IF_ERROR(server->Serve(fd, rpc::Transport::kUnix, nullptr, options));
  }
  if (!options.steps_path.empty()) {
    ASSIGN_OR_RETURN(const int fd, ListenUnix(options.steps_path));
    server->unix_paths_.push_back(options.steps_path);
    RETURN_IF_ERROR(server->Serve(fd, rpc::Transport::kTcp, nullptr, options));
    if (::chmod(options.steps_path.c_str(), 0666) != 0)
      return absl::InternalError("the socket of steps cannot be opened to them");
  }
  return server;
}

absl::Status HttpServer::Serve(int fd, rpc::Transport transport, const TlsFiles* files, const Options& options) {
  auto listener = std::make_unique<Listener>();
  listener->server = this;
  listener->transport = transport;
  if (transport == rpc::Transport::kTcp) listener->watch = &watch_;
  std::vector<MHD_OptionItem> tls;
  unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
  if (files != nullptr) {
    ASSIGN_OR_RETURN(tls, UseTls(files));
    flags |= MHD_USE_TLS;
    tls.push_back({MHD_OPTION_PER_IP_CONNECTION_LIMIT, static_cast<intptr_t>(options.connections / 4), nullptr});
  }
  tls.push_back({MHD_OPTION_END, 0, nullptr});
  listener->daemon = MHD_start_daemon(
      flags, 0, nullptr, nullptr, &Listener::Handle, listener.get(), MHD_OPTION_EXTERNAL_LOGGER, &LogLibrary, nullptr,
      MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, options.connections, MHD_OPTION_CONNECTION_TIMEOUT,
      options.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionMemory, MHD_OPTION_NOTIFY_COMPLETED,
      &Listener::Completed, listener.get(), MHD_OPTION_NOTIFY_CONNECTION, &Listener::Connected, listener.get(),
      MHD_OPTION_ARRAY, tls.data(), MHD_OPTION_END);
  if (listener->daemon == nullptr) {
    ::close(fd);
    return absl::InternalError("the HTTP server does not start");
  }
  listeners_.push_back(std::move(listener));
  return absl::OkStatus();
}

HttpServer::~HttpServer() { Stop(); }

void HttpServer::Stop() {
  // Every suspended connection must be resumed before its daemon is stopped: handlers that run finish, those that are
  // queued run too, and no more are queued.
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (const auto& listener : listeners_) {
    if (listener->daemon != nullptr) {
      const MHD_socket fd = MHD_quiesce_daemon(listener->daemon);
      if (fd != MHD_INVALID_SOCKET) ::close(fd);
    }
  }
  workers_.Drain();
  waiters_.Drain();
  transfers_.Drain();
  for (const auto& listener : listeners_) {
    if (listener->daemon != nullptr) MHD_stop_daemon(std::exchange(listener->daemon, nullptr));
  }
  workers_.Stop();
  waiters_.Stop();
  transfers_.Stop();
  for (const std::string& path : unix_paths_) ::unlink(path.c_str());
  unix_paths_.clear();
}

}  // namespace orch::http
