import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;

/**
 * Reads profiles: from Redis, and what is not there by serve_profile(), which has the relay put it there. Never SETs a key.
 *
 *   java -cp postgresql.jar examples/Serve.java 127.0.0.1:6379 'jdbc:postgresql://host/database?user=…' &lt; ids
 *
 * Prints "redis" or "database" and the profile, or "unknown", a line for each id. A program that has Jedis or Lettuce takes
 * its GET; this one speaks to Redis by itself.
 */
public class Serve {
    /** The stream's redis_prefix. */
    static final String PREFIX = "profile:";

    /** GET over one connection, which is made anew after an error. */
    static class Cache {
        final InetSocketAddress address;
        Socket socket;

        Cache(String address) {
            int colon = address.lastIndexOf(':');
            this.address = new InetSocketAddress(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
        }

        /** The value, or null where there is none. */
        byte[] get(String key) throws IOException {
            if (socket == null) {
                socket = new Socket();
                socket.connect(address, 1000);
                socket.setSoTimeout(1000);
            }
            byte[] name = key.getBytes(StandardCharsets.UTF_8);
            var command = new java.io.ByteArrayOutputStream();
            command.write(("*2\r\n$3\r\nGET\r\n$" + name.length + "\r\n").getBytes(StandardCharsets.US_ASCII));
            command.write(name);
            command.write("\r\n".getBytes(StandardCharsets.US_ASCII));
            socket.getOutputStream().write(command.toByteArray());
            var answer = new DataInputStream(socket.getInputStream());
            StringBuilder line = new StringBuilder();
            for (int c; (c = answer.readUnsignedByte()) != '\n';) line.append((char) c);
            if (line.charAt(0) != '$') throw new IOException("Redis answered " + line.toString().trim());
            int length = Integer.parseInt(line.substring(1).trim());
            if (length < 0) return null;
            byte[] value = new byte[length];
            answer.readFully(value);
            answer.skipBytes(2);
            return value;
        }

        void reset() {
            try {
                if (socket != null) socket.close();
            } catch (IOException error) {
                // it is given up anyway
            }
            socket = null;
        }
    }

    static String get(Cache cache, Connection connection, String customerId) throws Exception {
        try {
            byte[] profile = cache.get(PREFIX + customerId);
            if (profile != null) return "redis " + new String(profile, StandardCharsets.UTF_8);
        } catch (IOException error) {
            System.err.println(error.getMessage()); // without the cache it is slower, not wrong
            cache.reset();
        }
        try (PreparedStatement statement = connection.prepareStatement("SELECT profile_stream.serve_profile(?)::text")) {
            statement.setString(1, customerId);
            try (ResultSet row = statement.executeQuery()) {
                row.next();
                return "database " + (row.getString(1) == null ? "unknown" : row.getString(1));
            }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 2) {
            System.err.println("usage: java -cp postgresql.jar examples/Serve.java 127.0.0.1:6379 'jdbc:postgresql://host/database?user=…' <ids");
            System.exit(2);
        }
        Cache cache = new Cache(args[0]);
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        var ids = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (Connection connection = DriverManager.getConnection(args[1])) {
            for (String id; (id = ids.readLine()) != null;) out.println(get(cache, connection, id));
        }
    }
}
