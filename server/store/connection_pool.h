// Read-only connections, borrowed for one call each.
#pragma once

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/store/sqlite_status.h"

namespace orch::store {

// One connection with its prepared statements. Thread: the borrower's.
class Connection {
 public:
  // Throws SQLite::Exception.
  explicit Connection(const std::string& path);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // A statement, prepared once per text, given back reset: an unfinished SELECT would hold the log. Only one of a text
  // at a time. Throws SQLite::Exception.
  class Prepared {
   public:
    explicit Prepared(SQLite::Statement* statement) : statement_(statement) {}
    ~Prepared() {
      statement_->tryReset();
      statement_->clearBindings();
    }
    Prepared(const Prepared&) = delete;
    Prepared& operator=(const Prepared&) = delete;
    SQLite::Statement* operator->() { return statement_; }
    SQLite::Statement& operator*() { return *statement_; }
    // Binds the next parameter.
    Prepared& Int(int64_t v) {
      statement_->bind(++bound_, v);
      return *this;
    }
    Prepared& Text(absl::string_view v) {
      statement_->bind(++bound_, std::string(v));
      return *this;
    }
    Prepared& Blob(absl::string_view v) {
      statement_->bind(++bound_, v.data(), static_cast<int>(v.size()));
      return *this;
    }
    bool Next() { return statement_->executeStep(); }

   private:
    SQLite::Statement* statement_;
    int bound_ = 0;
  };
  Prepared Prepare(const std::string& sql);

  SQLite::Database& db() { return db_; }
  // Statements stop with SQLITE_INTERRUPT once CLOCK_BOOTTIME passes this; 0: never.
  void set_deadline(int64_t micros) { deadline_ = micros; }
  // When no statement is in use.
  void EndCall();

 private:
  static int OnProgress(void* self);

  SQLite::Database db_;
  std::unordered_map<std::string, std::unique_ptr<SQLite::Statement>> statements_;
  int64_t deadline_ = 0;
};

// Any thread.
class ConnectionPool {
 public:
  // Opens the first connection; the others when they are needed first.
  static absl::StatusOr<std::unique_ptr<ConnectionPool>> Open(const std::string& path, int connections,
                                                              int64_t deadline_micros);

  // Calls `read(Connection&)`, which returns an absl::Status or StatusOr, in one read transaction. `doing` is for
  // messages. UNAVAILABLE (DATABASE_BUSY) if no connection comes free before the deadline.
  template <typename F>
  auto Read(const char* doing, F read) -> decltype(read(std::declval<Connection&>())) {
    absl::StatusOr<std::unique_ptr<Connection>> connection = Borrow(doing);
    if (!connection.ok()) return connection.status();
    const Return back{this, connection->get()};
    Connection* c = connection->release();
    try {
      SQLite::Transaction snapshot(c->db());
      return read(*c);
    } catch (const SQLite::Exception& e) {
      return FromSqlite(e, doing);
    }
  }

 private:
  struct Return {
    ConnectionPool* pool;
    Connection* connection;
    ~Return() { pool->GiveBack(std::unique_ptr<Connection>(connection)); }
  };

  ConnectionPool(std::string path, int connections, int64_t deadline_micros)
      : path_(std::move(path)), deadline_micros_(deadline_micros), unopened_(connections) {}
  absl::StatusOr<std::unique_ptr<Connection>> Borrow(const char* doing);
  void GiveBack(std::unique_ptr<Connection> connection);

  const std::string path_;
  const int64_t deadline_micros_;
  Mutex mutex_;
  CondVar came_free_;
  std::vector<std::unique_ptr<Connection>> free_ ABSL_GUARDED_BY(mutex_);
  int unopened_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::store
