import com.google.gerrit.pgm.util.AbstractProgram;
import java.util.Arrays;

/** Runs one of Gerrit's programs, Init or Daemon: the jars of Maven Central have no launcher. */
public class Run {
  public static void main(String[] arguments) throws Exception {
    Class<?> program = Class.forName("com.google.gerrit.pgm." + arguments[0]);
    String[] rest = Arrays.copyOfRange(arguments, 1, arguments.length);
    AbstractProgram started = (AbstractProgram) program.getDeclaredConstructor().newInstance();
    System.exit(started.main(rest));
  }
}
