// Secrets at rest: what is sealed opens only as what it is, with its own key.
#include "server/engine/secrets.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"
#include "server/base/status.h"

namespace orch {
namespace {

class SecretsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "orchd-secrets-XXXXXX";
    dir_ = mkdtemp(pattern.data());
    path_ = dir_ + "/secret-key";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  SecretRow Sealed(const std::string& value, bool may_make = true) {
    SecretRow row;
    row.project = "default";
    row.name = "pw";
    Secrets secrets(path_);
    EXPECT_TRUE(secrets.Seal(value, may_make, &row).ok());
    return row;
  }
  std::string Open(const SecretRow& row) {
    Secrets secrets(path_);
    const auto value = secrets.Open(row);
    return value.ok() ? *value : ReasonOf(value.status());
  }

  std::string dir_;
  std::string path_;
};

TEST_F(SecretsTest, WhatIsSealedOpens) {
  for (const std::string& value : {std::string("x"), std::string("a\0b", 3), std::string(64 << 10, 'y')}) {
    const SecretRow row = Sealed(value);
    EXPECT_EQ(row.text, value.find('\0') == std::string::npos);
    EXPECT_EQ(row.sealed.size(), value.size() + 40);
    if (value.size() >= 8) {  // what is short is found in any bytes
      EXPECT_EQ(row.sealed.find(value), std::string::npos);
    }
    EXPECT_EQ(Open(row), value);
  }
  EXPECT_NE(Sealed("same").sealed, Sealed("same").sealed);
  struct stat st {};
  ASSERT_EQ(stat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(SecretsTest, OnlyAsWhatItIs) {
  const SecretRow row = Sealed("value");
  SecretRow other = row;
  other.name = "another";
  EXPECT_EQ(Open(other), "SECRET_DAMAGED");
  other = row;
  other.version = 2;
  EXPECT_EQ(Open(other), "SECRET_DAMAGED");
  for (size_t at = 0; at < row.sealed.size(); ++at) {
    other = row;
    other.sealed[at] = static_cast<char>(other.sealed[at] ^ 1);
    EXPECT_EQ(Open(other), "SECRET_DAMAGED");
  }
  other.sealed.resize(39);
  EXPECT_EQ(Open(other), "SECRET_DAMAGED");
}

TEST_F(SecretsTest, OnlyWithItsKey) {
  const SecretRow row = Sealed("value");
  chmod(path_.c_str(), 0604);
  EXPECT_EQ(Open(row), "SECRET_KEY_UNSAFE");
  chmod(path_.c_str(), 0600);
  std::filesystem::rename(path_, path_ + ".away");
  EXPECT_EQ(Open(row), "SECRET_KEY_MISSING");
  SecretRow another;
  Secrets secrets(path_);
  EXPECT_EQ(ReasonOf(secrets.Seal("x", /*may_make=*/false, &another)), "SECRET_KEY_MISSING");
  Sealed("value");  // makes another key
  EXPECT_EQ(Open(row), "SECRET_DAMAGED");
  std::filesystem::resize_file(path_, 5);
  EXPECT_EQ(Open(row), "SECRET_DAMAGED");
  std::filesystem::rename(path_ + ".away", path_);
  EXPECT_EQ(Open(row), "value");
}

}  // namespace
}  // namespace orch
