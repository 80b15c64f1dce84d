import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/**
 * Follows profiles with JDBC: LISTEN, then what changed since the bookmark, then wait. Prints "version customer",
 * and "by" the event if it was told.
 *
 *   java -cp postgresql.jar examples/Listen.java bookmark-file 'jdbc:postgresql://host/database?user=…'
 *
 * The file keeps the bookmark; without it every profile is told first.
 */
public class Listen {
    /** Milliseconds: what was announced while the server's queue was full, too. */
    static final int CATCH_UP_EVERY = 600_000;
    /** A JSON library does this better; ids with quotes or control characters are escaped. */
    static final Pattern CHANGE = Pattern.compile(
            "\\{\"customerId\":\"(.*)\",\"version\":(\\d+),(?:.*\"lastEvent\":\\{\"eventId\":\"(.*)\",\"timestamp\":)?.*");

    static void changed(String customerId, long version, String eventId) {
        System.out.println(version + " " + customerId + (eventId == null ? "" : " by " + eventId));
    }

    static void catchUp(Connection connection, Path file) throws Exception {
        String bookmark = Files.exists(file) ? Files.readString(file) : null;
        try (PreparedStatement statement = connection.prepareStatement(
                "SELECT customer_id, version, next_bookmark FROM profile_stream.profiles_changed_since(?)")) {
            statement.setString(1, bookmark);
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next()) {
                    changed(rows.getString(1), rows.getLong(2), null);
                    bookmark = rows.getString(3);
                }
            }
        }
        if (bookmark != null) { // only now: everything before it has been told
            Path written = Path.of(file + ".new");
            Files.writeString(written, bookmark);
            Files.move(written, file, StandardCopyOption.REPLACE_EXISTING);
        }
    }

    static void follow(Connection connection, Path file) throws Exception {
        PGConnection notifications = connection.unwrap(PGConnection.class);
        try (Statement statement = connection.createStatement()) {
            ResultSet channel = statement.executeQuery("SELECT quote_ident(profile_stream.notification_channel())");
            channel.next();
            statement.execute("LISTEN " + channel.getString(1));
        }
        for (long catchUpAt = System.nanoTime(); ; ) {
            long wait = (catchUpAt - System.nanoTime()) / 1_000_000;
            if (wait <= 0) {
                catchUp(connection, file);
                catchUpAt = System.nanoTime() + CATCH_UP_EVERY * 1_000_000L;
                continue;
            }
            PGNotification[] arrived = notifications.getNotifications((int) wait);
            for (PGNotification notification : arrived == null ? new PGNotification[0] : arrived) {
                Matcher change = CHANGE.matcher(notification.getParameter());
                if (change.matches()) {
                    changed(change.group(1), Long.parseLong(change.group(2)), change.group(3));
                } else {
                    catchUpAt = System.nanoTime(); // many at once: notify => 'batch', or swap_rebuild()
                }
            }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length != 2) {
            System.err.println("usage: java -cp postgresql.jar examples/Listen.java bookmark-file 'jdbc:postgresql://host/database?user=…'");
            System.exit(2);
        }
        for (;;) {
            try (Connection connection = DriverManager.getConnection(args[1])) {
                follow(connection, Path.of(args[0]));
            } catch (SQLException error) {
                System.err.println(error.getMessage());
            }
            Thread.sleep(1000);
        }
    }
}
