#include "server/base/fault.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

// The linker makes these of the section that all points are in.
extern orch::FaultPoint __start_orch_fault[] __attribute__((weak));
extern orch::FaultPoint __stop_orch_fault[] __attribute__((weak));

namespace orch {
namespace {

struct Order {
  int pass = 1;
  enum class Act : unsigned char { kKill, kAbort, kStall } act = Act::kKill;
  int stall_millis = 0;
  std::string once;  // a file; empty: each time
};

std::multimap<std::string, Order>& Orders() {
  static auto* orders = new std::multimap<std::string, Order>;
  return *orders;
}

bool IsOfSupervisor(const std::string& name) { return name.compare(0, 11, "supervisor.") == 0; }

// What stands between two commas.
std::string ReadOrder(const std::string& text, std::string* name, Order* order) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos) return "`" + text + "` has no `=ACT`";
  *name = text.substr(0, equals);
  const size_t colon = name->find(':');
  if (colon != std::string::npos) {
    order->pass = atoi(name->c_str() + colon + 1);
    name->resize(colon);
    if (order->pass < 1) return "`" + text + "`: passes count from 1";
  }
  std::string act = text.substr(equals + 1);
  if (const size_t file = act.find('@'); file != std::string::npos) {
    order->once = act.substr(file + 1);
    act.resize(file);
  }
  if (act == "kill") {
    order->act = Order::Act::kKill;
  } else if (act == "abort") {
    order->act = Order::Act::kAbort;
  } else if (act.compare(0, 6, "stall:") == 0) {
    order->act = Order::Act::kStall;
    order->stall_millis = atoi(act.c_str() + 6);
  } else {
    return "`" + act + "` is none of kill, abort, stall:MS";
  }
  return "";
}

}  // namespace

bool faults_armed = false;

void PassFault(FaultPoint* point) {
  const int pass = ++point->passes;
  const auto found = Orders().equal_range(point->name);
  for (auto it = found.first; it != found.second; ++it) {
    const Order& order = it->second;
    if (order.pass != pass || (!order.once.empty() && unlink(order.once.c_str()) != 0)) continue;
    const std::string line = std::string("fault ") + point->name + " at pass " + std::to_string(pass) + "\n";
    if (write(STDERR_FILENO, line.data(), line.size()) < 0) {
      // Nobody listens; what was ordered happens all the same.
    }
    switch (order.act) {
      case Order::Act::kKill:
        kill(getpid(), SIGKILL);
        for (;;) pause();  // it comes at once, but maybe not before this returns
      case Order::Act::kAbort:
        abort();
      case Order::Act::kStall:
        poll(nullptr, 0, order.stall_millis);
        break;
    }
  }
}

std::string ArmFaults(const std::string& orders, bool supervisor) {
  std::multimap<std::string, Order> read;
  const std::vector<std::string> known = FaultPoints();
  for (size_t at = 0; at < orders.size();) {
    const size_t end = std::min(orders.find(',', at), orders.size());
    std::string name;
    Order order;
    const std::string fault = ReadOrder(orders.substr(at, end - at), &name, &order);
    if (!fault.empty()) return fault;
    at = end + 1;
    if (IsOfSupervisor(name) != supervisor) continue;
    if (!std::binary_search(known.begin(), known.end(), name)) return "there is no fault point `" + name + "`";
    read.emplace(std::move(name), order);
  }
  Orders() = std::move(read);
  faults_armed = true;
  return "";
}

std::vector<std::string> FaultPoints() {
  std::vector<std::string> out;
  for (const FaultPoint* point = __start_orch_fault; point != __stop_orch_fault; ++point) out.emplace_back(point->name);
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace orch
